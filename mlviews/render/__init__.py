"""Files for programs, and pages for people: a value goes in, text comes out."""
