"""The commands of ``mogrid``, one module each.

A module has ``add_arguments(parser)`` and ``run(arguments) -> int``, the process's exit code; its name is the
command's and its docstring is the help. What is heavy to import is imported in ``run``. List it in `mogrid.cli`.
"""
