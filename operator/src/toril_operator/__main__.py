import sys

from toril_operator.main import main

sys.exit(main())
