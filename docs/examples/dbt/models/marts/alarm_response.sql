-- How long alarms wait for somebody, and until they are over, by rule.
select
    rule_id,
    any_value(rule_name) as rule_name,
    count(*) as alarms,
    count(*) filter (where status <> 'resolved') as open,
    avg(epoch(acknowledged_at - triggered_at)) / 60 as minutes_to_acknowledge,
    avg(epoch(resolved_at - triggered_at)) / 60 as minutes_to_resolve
from {{ source('fleet', 'alarms') }}
group by rule_id
