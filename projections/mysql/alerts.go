package mysql

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"cloudengine/events/feed/alerts"
)

// alertsTable is a copy of the book of alerts. It is no read model: it is filled from the stream ALERTS and not from the log, stands
// beside the versioned tables, and no rebuild touches it.
const alertsTable = `CREATE TABLE IF NOT EXISTS alerts (
  id CHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'of the alert, for ever',
  rule VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'what is watched: unknown, silent, bmc, contradiction, stale_domain, orphan, override, term, lag, parked, disk, stopped',
  object VARCHAR(300) NOT NULL COMMENT 'what it is about: kind/id',
  severity VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'warning or critical',
  message TEXT NOT NULL COMMENT 'for people',
  open BOOLEAN NOT NULL COMMENT 'it is not over',
  times INT NOT NULL COMMENT 'how often it was raised while it was open',
  number BIGINT UNSIGNED NULL COMMENT 'of the decision that raised it; NULL: a measure did',
  raised_at DATETIME(6) NOT NULL COMMENT 'UTC',
  cleared_at DATETIME(6) NULL COMMENT 'UTC; NULL: it is open',
  cleared_why TEXT NULL,
  acked_at DATETIME(6) NULL COMMENT 'UTC; NULL: nobody has',
  acked_by VARCHAR(64) NULL COMMENT 'user',
  undelivered BOOLEAN NOT NULL COMMENT 'somebody could not be told, and it was given up',
  record JSON NOT NULL COMMENT 'all of it, with what was sent to whom',
  PRIMARY KEY (id), KEY by_open (open, raised_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='alerts, a copy of the stream ALERTS'`

// Alerts writes the copy. It is for one goroutine at a time.
type Alerts struct{ DB *sql.DB }

// Begin makes the table, empty: all alerts follow.
func (a Alerts) Begin(ctx context.Context) error {
	for _, q := range []string{alertsTable, "DELETE FROM alerts"} {
		if _, err := a.DB.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("make table of alerts: %w", err)
		}
	}
	return nil
}

// Put writes an alert as it is now.
func (a Alerts) Put(ctx context.Context, r alerts.Record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode alert: %w", err)
	}
	null := func(is bool, v any) any {
		if is {
			return nil
		}
		return v
	}
	dead := slices.ContainsFunc(r.Sent, func(s alerts.Sending) bool { return s.Dead })
	_, err = a.DB.ExecContext(ctx, `REPLACE INTO alerts (id, rule, object, severity, message, open, times, number, raised_at, cleared_at, cleared_why,
 acked_at, acked_by, undelivered, record) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		r.ID, r.Rule, r.Object.String(), string(r.Severity), r.Message, r.Open(), r.Times, null(r.Number == 0, r.Number), r.Raised.UTC(), r.Cleared,
		null(r.Open(), r.ClearedWhy), r.Acked, null(r.Acked == nil, r.AckedBy), dead, string(raw))
	if err != nil {
		return fmt.Errorf("write alert %s: %w", r.ID, err)
	}
	return nil
}
