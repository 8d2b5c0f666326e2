"""Runs the engine against a backend and its sinks. Private; `promoter_core` exports `Promoter` and `PromoterFleet`."""
