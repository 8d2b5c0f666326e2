-- The versions of the framework that run, as far as the store has a trace of them. Changes nothing.
-- KEYS: the set
-- Reply: {version, …}
local call, pcall, try = redis.pcall, redis.pcall, pcall
-- layout seen
