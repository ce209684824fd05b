"""fastlstm under the programs of other libraries: `keras`, `torch`, `sklearn`.

Each module needs its library, which the extra of its name installs.
"""
