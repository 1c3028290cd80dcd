"""Where an installed package has what is not Python: bin/, lib/ and share/berth/configs/."""

import os

NATIVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_native")
