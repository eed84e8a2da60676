"""What a run will take, told before anything is loaded: memory, time and money on a machine.

:mod:`.machines` says what machines have, :mod:`.rates` what was measured, :mod:`.memory` and :mod:`.timing`
reckon, :mod:`.former` reads what a former run measured, and :mod:`.plan` puts it together.
"""
