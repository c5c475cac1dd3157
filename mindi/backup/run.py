"""Runs ``mondoarchive``: a set is made, or one is verified; the result is printed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from archive.errors import ArchiveError
from initramfs.errors import ImageError
from mindi.backup.flow import Backup
from mindi.backup.gentleness import give_way
from mindi.backup.log import logged
from mindi.backup.options import ArchiveOptions
from mindi.backup.progress import Display, make_display
from mindi.backup.scratch import scratch_folder
from mindi.backup.selection import own_paths
from mindi.backup.summary import EXIT_COMPLETE, EXIT_WARNINGS
from mindi.mains import Manner
from mindi.results import print_result

_log = logging.getLogger(__name__)


def run(options: ArchiveOptions, manner: Manner) -> int:
    """Do what was asked for; return the exit code. Raises ArchiveError, ImageError."""
    os.umask(0o077)
    display = make_display(quiet=manner.quiet, as_json=manner.as_json)
    with logged(options.log, display.show, debug=manner.debug):
        try:
            give_way(options.nice, options.ionice)
            with scratch_folder(options.scratch_dir, options.tmp_dir) as scratch:
                if options.backup:
                    return _backup(options, manner, display, scratch)
                return _verify(options, manner, display, scratch)
        except (ArchiveError, ImageError) as error:
            _log.error("%s", error.message)
            raise
        finally:
            display.close()


def _backup(options: ArchiveOptions, manner: Manner, display: Display, scratch: Path) -> int:
    backup = Backup(options, display, scratch)
    summary = backup.make()
    display.close()
    _log.info("%s", summary.to_text())
    print_result(summary.to_json() if manner.as_json else summary.to_text())
    if summary.verified is not None:
        from mindi.backup.verify import refuse_damage

        refuse_damage(summary.verified)
    if backup.hook_failed is not None:
        raise backup.hook_failed
    return summary.exit_code


def _verify(options: ArchiveOptions, manner: Manner, display: Display, scratch: Path) -> int:
    from mindi.backup.verify import refuse_damage, verify_set

    verified = verify_set(
        options.chain_folder,
        display,
        scratch=scratch,
        jobs=options.jobs,
        chain=True,
        out=own_paths(options, scratch),
    )
    print_result(verified.to_json() if manner.as_json else verified.to_text())
    refuse_damage(verified)
    return EXIT_WARNINGS if verified.differs else EXIT_COMPLETE
