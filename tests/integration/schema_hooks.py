"""What Schemathesis must know of the API beyond its description; see schema_test.py."""

import schemathesis  # noqa: F401
