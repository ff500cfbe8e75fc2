"""Fitting the reduced system: estimates, intervals, and what happens without the arrows.

Residuals are correlated: records of one run that lie a log-time u apart share exp(−u/ℓ) of their
deviation (an Ornstein–Uhlenbeck process seen at irregular times), with a variance and an ℓ of its
own for each of the two variables. Those four are estimated by restricted maximum likelihood and
then held, so the rest is least squares on whitened residuals. How far the cost must rise to leave
a parameter's interval, or to reject a null, is Fisher's F times a small-sample factor: the 95 %
quantile of the same statistic in simulated data, over that of F. They are simulated from the fit
with correlation lengths that the residuals allow, and their noise is estimated anew each time:
twenty records do not tell slow noise from fast, and intervals that took the estimate for the truth
would hold a parameter only nine times in ten.
"""
