-- Included by the parts of layouts that deliver the payload; `byte` is a local there.
-- Returns the first and last byte of the id and of the payload, for a member whose envelope starts at `at`; nothing if it
-- has no id, or if its payload is not bytes.
local function payload_of(member, at)
  local array, tag, b1, b2, b3, b4 = byte(member, at, at + 5)
  if array and array >= 0xdc and array <= 0xdd then
    local header = array == 0xdc and 2 or 4
    at, tag, b1, b2, b3, b4 = at + header, byte(member, at + header + 1, at + header + 5)
  elseif not tag or array < 0x91 or array > 0x9f then
    return nil
  end
  local id, id_end
  if not tag then return nil
  elseif tag >= 0xa0 and tag <= 0xbf then id, id_end = at + 2, at + tag - 0x9f
  elseif tag == 0xd9 and b1 then id, id_end = at + 3, at + 2 + b1
  elseif tag == 0xda and b2 then id, id_end = at + 4, at + 3 + b1 * 256 + b2
  elseif tag == 0xdb and b4 then id, id_end = at + 6, at + 5 + ((b1 * 256 + b2) * 256 + b3) * 256 + b4
  else return nil end
  local from, last
  tag, b1, b2, b3, b4 = byte(member, id_end + 1, id_end + 5)
  if tag == 0xc4 and b1 then from, last = id_end + 3, id_end + 2 + b1
  elseif tag == 0xc5 and b2 then from, last = id_end + 4, id_end + 3 + b1 * 256 + b2
  elseif tag == 0xc6 and b4 then from, last = id_end + 6, id_end + 5 + ((b1 * 256 + b2) * 256 + b3) * 256 + b4
  else return nil end
  if last >= #member then return nil end
  return id, id_end, from, last
end
