-- The readings that are numbers and whose time can be trusted.
select device_id, vendor, metric, unit, value_number as value, observed_at
from {{ source('fleet', 'readings') }}
where value_number is not null and time_quality = 'ok'
