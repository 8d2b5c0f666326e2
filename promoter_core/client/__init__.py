"""Schedule, list, change, retry and transfer delayed jobs. Private; `promoter_core` exports the names."""
