-- Included by scripts that read the head of a sorted set. A score is a due time in ms.
local LOW, MAX_DUE_MS, PARKED = '-inf', 253402300799999, '(253402300799999' -- later jobs are parked
local function head_of(key) return redis.pcall('ZRANGE', key, 0, 0, 'WITHSCORES') end
local function due_of(score) return score == '-inf' and 0 or tonumber(score) or math.huge end
local function due_text(time) return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) end
