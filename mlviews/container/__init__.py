"""Views as container images, made from their locks."""
