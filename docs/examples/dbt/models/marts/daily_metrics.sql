-- One row per device, metric and day.
select
    device_id,
    metric,
    unit,
    date_trunc('day', observed_at)::date as day,
    count(*) as readings,
    min(value) as lowest,
    avg(value) as mean,
    max(value) as highest
from {{ ref('stg_numbers') }}
group by all
