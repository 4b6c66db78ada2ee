"`python -m msca …` is `msca …`; launchers start it as `torchrun --nproc_per_node N -m msca train …`."
import sys

from msca.commands.cli import main

if __name__ == '__main__': sys.exit(main())
