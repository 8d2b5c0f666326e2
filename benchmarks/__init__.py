"""Measurements that stay. Each prints ratios of one run on one machine; see docs/explanation/performance.md."""
