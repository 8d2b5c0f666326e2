-- Records where due jobs of a queue go, to detect processes with different options of the same layout.
-- KEYS: target record
-- ARGV: the target by the caller's options, time to live of the record in ms, 1 if the caller leads the queue
-- Reply: the target that was recorded before; "" if none was.
-- The leader overwrites the record, because it moves the jobs. Errors are ignored: this must not stop a job.
local was = redis.pcall('GET', KEYS[1])
if type(was) ~= 'string' then was = '' end
if was == '' or was == ARGV[1] or ARGV[3] == '1' then
  redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return was
