-- Included by scripts that have `byte` and `sub` as locals.
-- Returns the id of a member whose msgpack envelope starts at `at`: the first element of an array, if it is a string and
-- more elements follow. It handles every such envelope; promote.lua has its own code for the common ones.
local function id_of(member, at)
  local array = byte(member, at)
  if not array then
    return nil
  elseif array >= 0x91 and array <= 0x9f then
    at = at + 1
  elseif array == 0xdc then
    at = at + 3
  elseif array == 0xdd then
    at = at + 5
  else
    return nil
  end
  local tag, b1, b2, b3, b4 = byte(member, at, at + 4)
  local from, size
  if not tag then return nil end
  if tag >= 0xa0 and tag <= 0xbf then from, size = at + 1, tag - 0xa0
  elseif tag == 0xd9 and b1 then from, size = at + 2, b1
  elseif tag == 0xda and b2 then from, size = at + 3, b1 * 256 + b2
  elseif tag == 0xdb and b4 then from, size = at + 5, ((b1 * 256 + b2) * 256 + b3) * 256 + b4
  else return nil end
  return from + size <= #member and sub(member, from, from + size - 1) or nil
end
