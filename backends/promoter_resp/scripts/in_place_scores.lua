-- Included by scripts that read scores of another framework's set. A score plus SHIFT is a due time, in units of UNIT_MS
-- milliseconds.
local LOW, SHIFT, UNIT_MS, MAX_DUE_MS, PARKED = <low>, <shift>, <unit_ms>, 253402300799999, '(<parked>'
local function head_of(key) return <head> end
local function due_of(score) return math.max((tonumber(score) or 0) + SHIFT, 0) * UNIT_MS end -- in ms
local function due_text(time) return <due_text> end
local function late_text(time, ms) return <late_text> end
local function depth_of(key) return <depth> end
local WITH_SCORES = <with_scores>
