-- Returns the running versions of the framework, if the store shows them. Read-only.
-- KEYS: the set
-- Reply: {version, …}
local call, pcall, try = redis.pcall, redis.pcall, pcall
-- layout seen
