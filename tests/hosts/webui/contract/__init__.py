"""What the extension asks of a WebUI, checked against a checkout by reading both; neither is run or imported.

uses       what the extension uses: symbols, arguments, hooks, settings, flags; and for which of them it asks first
checkout   what a host has
behaviours what a host must do, which no signature tells
compare    one verdict for each use

python -m hosts.webui.contract CHECKOUT...            what is missing (from the folder `tests`)
python -m hosts.webui.contract --table CHECKOUT...    the table of docs/hosts.md
"""
