"""What people would rather look at than read: contact sheets and charts."""
