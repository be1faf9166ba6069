"""Sites: profiles of places, and what a view is at one."""
