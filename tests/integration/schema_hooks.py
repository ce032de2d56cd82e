"""What Schemathesis must know of the API beyond its description; see schema_test.py.

JSON of any shape is taken where fields are not known, with four limits that a schema cannot state:
no NUL in a string, integers of at most 64 bits, no number beyond a double, 64 levels.
"""

import schemathesis

DEPTH_MAX = 60


def is_within_limits(value, depth=0):
    if depth > DEPTH_MAX:
        return False
    if isinstance(value, dict):
        return all(
            is_within_limits(k, depth) and is_within_limits(v, depth + 1) for k, v in value.items()
        )
    if isinstance(value, list):
        return all(is_within_limits(item, depth + 1) for item in value)
    if isinstance(value, str):
        return "\0" not in value
    return not isinstance(value, int) or -(2**63) <= value < 2**63


@schemathesis.hook
def filter_body(context, body):
    return is_within_limits(body)
