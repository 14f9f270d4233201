// What Go's driver does with the SQL server: binary values, types that the server has to name, transactions, errors.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func run(url string) error {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	since := time.Date(2026, 11, 17, 0, 0, 0, 0, time.UTC)
	rows, err := c.Query(ctx,
		"SELECT device_id, value_number, observed_at, [1, 2], 1.5::DECIMAL(5,2) FROM readings "+
			"WHERE metric = ANY($1) AND observed_at > $2 ORDER BY observed_at, device_id LIMIT $3",
		[]string{"battery.level"}, since, 2)
	if err != nil {
		return err
	}
	for rows.Next() {
		var device string
		var value float64
		var at time.Time
		var list []int32
		var decimal float64
		if err := rows.Scan(&device, &value, &at, &list, &decimal); err != nil {
			return err
		}
		fmt.Println(device, value, at.UTC().Format(time.RFC3339), list, decimal)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		return err
	}
	var count int64
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM readings").Scan(&count); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	var failed *pgconn.PgError
	if err := c.QueryRow(ctx, "SELECT nosuch FROM latest").Scan(&count); !errors.As(err, &failed) {
		return fmt.Errorf("no error of the server: %w", err)
	}
	fmt.Println(count, failed.Code)
	return nil
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
