"""Views tested every night by somebody else's machines: GitHub's workflow, GitLab's pipeline."""
