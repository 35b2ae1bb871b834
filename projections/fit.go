package projections

import (
	"fmt"
	"io/fs"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"unicode/utf8"

	"cloudengine/schemas"
)

// limit is what a column can hold.
type limit struct {
	chars int // of a text; 0: it is no text
	ascii bool
	int32 bool
}

// maxText bounds texts of columns without a length, in bytes. A statement of the database takes 16 MiB.
const maxText = 4 << 20

var columnPattern = regexp.MustCompile("(?m)^  `(\\w+)` (\\w+)(?:\\((\\d+)\\))?( CHARACTER SET ascii)?")

// limitsOf reads what the columns of a table can hold from the statement that makes it.
func limitsOf(table string) map[string]limit {
	names, err := fs.Glob(schemas.MySQL, "mysql/*_"+table+".sql")
	if err != nil || len(names) != 1 {
		panic(fmt.Sprintf("table %s: %d statements make it, want 1 (%v)", table, len(names), err))
	}
	b, err := fs.ReadFile(schemas.MySQL, names[0])
	if err != nil {
		panic(fmt.Sprintf("table %s: %v", table, err)) // it is embedded
	}
	out := map[string]limit{}
	for _, m := range columnPattern.FindAllStringSubmatch(string(b), -1) {
		l := limit{ascii: m[4] != ""}
		switch m[2] {
		case "CHAR", "VARCHAR":
			l.chars, _ = strconv.Atoi(m[3]) // the pattern lets only digits through
		case "MEDIUMTEXT", "JSON":
			l.chars = maxText
		case "INT":
			l.int32 = true
		}
		out[m[1]] = l
	}
	return out
}

// fits says why a row cannot be stored. It is asked for every state of a row, also for those that a batch writes over before they are
// stored: so what is parked does not depend on the size of batches.
func (t *Table) fits(row any) error {
	v := reflect.ValueOf(row).Elem()
	for i, l := range t.limits {
		f := v.Field(i)
		if f.Kind() == reflect.Pointer {
			if f.IsNil() {
				continue
			}
			f = f.Elem()
		}
		var err error
		switch f.Kind() {
		case reflect.String:
			err = l.text(f.String())
		case reflect.Slice:
			err = l.text(string(f.Bytes()))
		case reflect.Int:
			if n := f.Int(); l.int32 && (n < math.MinInt32 || n > math.MaxInt32) {
				err = fmt.Errorf("%d is out of range", n)
			}
		}
		if err != nil {
			return fmt.Errorf("store %s of %s: %w", t.Columns[i], t.Name, err)
		}
	}
	return nil
}

func (l limit) text(s string) error {
	if l.chars > 0 && len(s) > l.chars && utf8.RuneCountInString(s) > l.chars {
		return fmt.Errorf("%d bytes are more than %d characters", len(s), l.chars)
	}
	if l.ascii {
		for i := range len(s) {
			if s[i] >= utf8.RuneSelf {
				return fmt.Errorf("%q is not ASCII", s[:min(len(s), 40)])
			}
		}
	}
	return nil
}

// CanBe says whether a column, which the table has, can be equal to a text: the database does not compare one of ASCII with other letters.
func (t *Table) CanBe(column, text string) bool {
	for i, c := range t.Columns {
		if c == column && t.limits[i].ascii {
			return limit{ascii: true}.text(text) == nil
		}
	}
	return true
}
