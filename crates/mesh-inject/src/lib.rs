//! INJECTION: pod in, patched pod out, pure.
