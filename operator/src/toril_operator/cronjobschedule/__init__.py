"""The kind CronJobSchedule: handlers → reconcile → observe, apply → status → plan → desired."""
