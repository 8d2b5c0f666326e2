-- Notes where due jobs of a queue go, so that processes with other options of the same layout are found.
-- KEYS: target record
-- ARGV: where they go by the caller's options, for how many ms that is kept, 1 when the caller leads the queue
-- Reply: where they go by the options of the process that noted it before; empty when none did.
-- The leader's word counts, since it moves them. What is refused is left out: this must not stop a job.
local was = redis.pcall('GET', KEYS[1])
if type(was) ~= 'string' then was = '' end
if was == '' or was == ARGV[1] or ARGV[3] == '1' then
  redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return was
