"""A backend for Promoter that keeps delayed jobs in PostgreSQL."""
