package main

import "testing"

func TestEscape(t *testing.T) {
	for _, c := range []struct {
		in    []string
		typed string
		leave bool
	}{
		{[]string{"ls\r", "~."}, "ls\r", true},
		{[]string{"~", "."}, "", true},
		{[]string{"a~.b"}, "a~.b", false},
		{[]string{"~~.x"}, "~.x", false},
		{[]string{"~", "x\n~", "~y"}, "~x\n~y", false},
		{[]string{"x\r~.never typed"}, "x\r", true},
	} {
		e, typed, left := escape{lineStart: true}, "", false
		for _, text := range c.in {
			out, leave := e.take([]byte(text))
			if typed += string(out); leave {
				left = true
				break
			}
		}
		if typed != c.typed || left != c.leave {
			t.Errorf("%q: typed %q, left %v; want %q, %v", c.in, typed, left, c.typed, c.leave)
		}
	}
}
