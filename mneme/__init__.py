"""mneme: what else did fine-tuning change?"""

__version__ = "0.1.0"
