// A consumer of fleetlake's topics in Go, written from schemas/contract/asyncapi.yaml and the JSON Schemas beside it.
//
// It reads the topics of readings, alarms and devices to their ends and prints one line per reading, alarm event and
// device, sorted, so that it can be compared with other consumers. `go run . BOOTSTRAP`
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	readings = "telemetry.readings.v1"
	alarms   = "telemetry.alarms.v1"
	devices  = "telemetry.devices.v1"
)

// observation.schema.json
type observation struct {
	ID         string    `json:"id"`
	DeviceID   string    `json:"device_id"`
	ReceivedAt time.Time `json:"received_at"`
	Readings   []reading `json:"readings"`
}

// Exactly one of the values is set.
type reading struct {
	Metric       string    `json:"metric"`
	ValueNumber  *float64  `json:"value_number"`
	ValueText    *string   `json:"value_text"`
	ValueBoolean *bool     `json:"value_boolean"`
	ValueJSON    *string   `json:"value_json"`
	Unit         string    `json:"unit"`
	ObservedAt   time.Time `json:"observed_at"`
}

func (r reading) value() (string, error) {
	var found []string
	if r.ValueNumber != nil {
		found = append(found, fmt.Sprintf("%.6g", *r.ValueNumber))
	}
	if r.ValueText != nil {
		found = append(found, *r.ValueText)
	}
	if r.ValueBoolean != nil {
		found = append(found, fmt.Sprint(*r.ValueBoolean))
	}
	if r.ValueJSON != nil {
		found = append(found, *r.ValueJSON)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s has %d values", r.Metric, len(found))
	}
	return found[0], nil
}

// alarm-event.schema.json
type alarmEvent struct {
	Sequence  int    `json:"sequence"`
	EventType string `json:"event_type"`
	Alarm     struct {
		AlarmID  string `json:"alarm_id"`
		DeviceID string `json:"device_id"`
		Severity string `json:"severity"`
		Status   string `json:"status"`
	} `json:"alarm"`
}

// device.schema.json
type device struct {
	DeviceID string  `json:"device_id"`
	Name     *string `json:"name"`
}

func lines(record *kgo.Record, known map[string]string) ([]string, error) {
	switch record.Topic {
	case readings:
		var o observation
		if err := json.Unmarshal(record.Value, &o); err != nil {
			return nil, err
		}
		if string(record.Key) != o.DeviceID || header(record, "ce_id") != o.ID {
			return nil, fmt.Errorf("key %s or header ce_id is not that of the value", record.Key)
		}
		var out []string
		for _, r := range o.Readings {
			value, err := r.value()
			if err != nil {
				return nil, err
			}
			at := r.ObservedAt.UTC().Format("2006-01-02T15:04:05.000000Z")
			out = append(out, fmt.Sprintf("reading %s %s %s %s %s", o.DeviceID, r.Metric, value, r.Unit, at))
		}
		return out, nil
	case alarms:
		var e alarmEvent
		if err := json.Unmarshal(record.Value, &e); err != nil {
			return nil, err
		}
		return []string{fmt.Sprintf("alarm %s %s %d %s %s", e.Alarm.AlarmID, e.Alarm.DeviceID, e.Sequence, e.EventType, e.Alarm.Status)}, nil
	case devices:
		if record.Value == nil { // a tombstone
			delete(known, string(record.Key))
			return nil, nil
		}
		var d device
		if err := json.Unmarshal(record.Value, &d); err != nil {
			return nil, err
		}
		name := ""
		if d.Name != nil {
			name = *d.Name
		}
		known[d.DeviceID] = fmt.Sprintf("device %s %s", d.DeviceID, name)
	}
	return nil, nil
}

func header(record *kgo.Record, name string) string {
	for _, h := range record.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func run(bootstrap string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumeTopics(readings, alarms, devices),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // markers of transactions: by them the end of a partition is seen
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, readings, alarms, devices)
	if err != nil {
		return err
	}
	waiting := map[string]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			waiting[fmt.Sprint(o.Topic, o.Partition)] = o.Offset
		}
	})
	var out []string
	known := map[string]string{}
	for len(waiting) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		var failed error
		fetches.EachRecord(func(record *kgo.Record) {
			if !record.Attrs.IsControl() {
				found, err := lines(record, known)
				if err != nil {
					failed = fmt.Errorf("%s-%d@%d: %w", record.Topic, record.Partition, record.Offset, err)
				}
				out = append(out, found...)
			}
			if place := fmt.Sprint(record.Topic, record.Partition); record.Offset+1 >= waiting[place] {
				delete(waiting, place)
			}
		})
		if failed != nil {
			return failed
		}
	}
	for _, line := range known {
		out = append(out, line)
	}
	sort.Strings(out)
	for _, line := range out {
		fmt.Println(line)
	}
	return nil
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
