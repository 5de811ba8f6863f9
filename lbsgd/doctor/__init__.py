"""`lbsgd doctor`: whether these hosts can run a job, and if not, what stands in the way and what to do.

Every host tells facts (facts.py); pure functions judge the facts of all hosts together (in the file of each subject); then
ranks are started for real (meeting.py). examination.py has the order.
"""
