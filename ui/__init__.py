"""The live page: devices, alarms and the pipeline in a browser (docs/ui.md)."""
