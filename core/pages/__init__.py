"""What people would rather look at than read: one kit for HTML pages and charts."""
