"""Arm Ethos-U through Arm's compiler, vela: what of a model runs there, modelled cycles and memory, and the compiled file.

``vela.py`` is the face: ``model_ethos_u`` and ``compile_ethos_u`` with ``VelaOptions``.
"""
