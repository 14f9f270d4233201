"""The columnar path of normalising: many messages of one shape at once, as columns.

The vendors' handlers stay the one description of what a message means. A handler is run once on a message of a shape
whose values are unknown (`trace`), and what it reads there is then read in all messages of the shape at once (`shape`).
What fits no shape takes the general path, record by record.
"""
