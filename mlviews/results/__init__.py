"""What each command gives back: the ``data`` of the JSON envelope, one model a command.

Their JSON Schemas travel with mlviews, in ``mlviews/schemas/``. A command imports the module that it needs, no other:
making models takes time.
"""
