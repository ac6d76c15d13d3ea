"""The dataset doctor: what is wrong with a data set, and what the default boxes can and cannot reach in it.

report = examine("cells", Reading(), own_boxes)   # every split, every picture decoded; nothing is written
print(judge(report).line)
"""

from ssd.audit.choices import box_choices
from ssd.audit.findings import Report, SplitReport, examine
from ssd.audit.splits import Reading
from ssd.audit.verdict import Verdict, judge

__all__ = ["Reading", "Report", "SplitReport", "Verdict", "box_choices", "examine", "judge"]
