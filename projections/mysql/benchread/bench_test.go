package benchread

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"

	"cloudengine/projections/projectionstest"
)

// The raw side writes exactly the rows that ours writes; the benchmark itself runs only when asked for: CE_BENCH=1, or the id of a line.
func TestSides(t *testing.T) {
	all := projectionstest.New(rand.New(rand.NewPCG(1, 4)).IntN, 3).Steps(300).All()
	raw, rows, err := statements(all)
	if err != nil || rows < 100 || len(raw) == 0 {
		t.Fatalf("%d rows in %d batches, %v", rows, len(raw), err)
	}
	if os.Getenv("CE_BENCH") == "" {
		return
	}
	results, err := Run(context.Background(), func(id string) bool { return os.Getenv("CE_BENCH") == "1" || os.Getenv("CE_BENCH") == id })
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(string(b))
}
