package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloudengine/projections/mysql"

	"github.com/rogpeppe/go-internal/testscript"
)

// sql sends statements to the database of the server, as a dashboard would, and prints the first column of what they give.
func (l *lab) sql(ts *testscript.TestScript, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dsn, err := os.ReadFile(filepath.Join(l.dir, "data", "mysql.dsn"))
	ts.Check(err)
	d, err := mysql.Open(ctx, mysql.Config{DSN: strings.TrimSpace(string(dsn)), Log: slog.New(slog.DiscardHandler)})
	ts.Check(err)
	defer d.Close()
	for _, q := range args {
		rows, err := d.DB.QueryContext(ctx, q)
		ts.Check(err)
		for rows.Next() {
			var v sql.NullString
			ts.Check(rows.Scan(&v))
			fmt.Fprintln(ts.Stdout(), v.String)
		}
		ts.Check(rows.Err())
	}
}

// metric waits until a metric of the server has a value.
func (l *lab) metric(ts *testscript.TestScript, name, value string) {
	var body []byte
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		answer, err := http.Get(l.http + "/metrics")
		ts.Check(err)
		body, err = io.ReadAll(answer.Body)
		ts.Check(err)
		ts.Check(answer.Body.Close())
		if strings.Contains(string(body), "\n"+name+" "+value+"\n") {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	ts.Fatalf("metric %s does not become %s:\n%s", name, value, body)
}

func envParked(ts *testscript.TestScript, name string) {
	ts.Check(ts.Exec("cloudengine", "parked", "ls", "-o", "json"))
	var found struct{ Items []struct{ Object string } }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &found))
	if len(found.Items) == 0 {
		ts.Fatalf("nothing is parked")
	}
	ts.Setenv(name, found.Items[0].Object)
}
