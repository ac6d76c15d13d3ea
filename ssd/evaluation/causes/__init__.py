"""Why objects are missed: the cause of each in the pipeline, and the AP that mending a cause regains."""
