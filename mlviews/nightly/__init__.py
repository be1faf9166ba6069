"""Every view against tomorrow's packages, and the package that broke it."""
