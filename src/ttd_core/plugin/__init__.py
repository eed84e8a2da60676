"""Plugins: what they may implement, how they are found, guarded and called.

:mod:`.spec` has every hook with its types, :mod:`.results` what each may return. :mod:`.entries` reads from
metadata what is installed, :mod:`.registry` imports it, :mod:`.guard` names the plugin that a fault came from
and :mod:`.hooks` calls them. :mod:`.builtins` registers the policies and executors that come with ttd.
"""
