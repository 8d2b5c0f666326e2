-- Included by scripts that have `index_prefix` as a local.
-- Checks permissions before the first write, and raises the server's error: a later refusal would leave a job half changed.
-- Servers before Redis 7 cannot check.
local ask_acl, permitted = redis.acl_check_cmd, {}
local function need(command, ...)
  if ask_acl and not permitted[command] then
    if not ask_acl(command, ...) then
      error({err = "NOPERM User has no permissions to run the '" .. string.lower(command) .. "' command"}, 0)
    end
    permitted[command] = true
  end
end
