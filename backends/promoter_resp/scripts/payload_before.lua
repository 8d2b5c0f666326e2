local length
-- include payload_of
