"""What must hold before a release, checked; see ``RELEASING.md``. Nothing here publishes anything."""
