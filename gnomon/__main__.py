"""`python -m gnomon`.

Knows: where the program begins.
Does not know: anything else.
Spec: none.
"""

from .cli import main

if __name__ == "__main__":
    main()
