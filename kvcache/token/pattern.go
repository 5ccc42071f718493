package token

import (
	"strings"
	"unicode/utf8"
)

// A scanner returns the end of the piece that begins at text[i]: of the match of a regular expression there, or of the
// stretch up to its next match. Each does in one pass, and without going back further than the last run of white space,
// what a backtracking engine does with the expression it stands for.
type scanner func(u *unicodeTables, text []byte, i int) int

// The expressions of the families, in the spelling of the models' files with line breaks escaped.
const (
	patternGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternCL100K = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen35 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternO200K  = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|` +
		`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|` +
		`\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternTekken = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|` +
		`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|` +
		`\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternNumbers3 = `\p{N}{1,3}`
	patternCJK      = `[一-龥぀-ゟ゠-ヿ]+`
	patternDeepSeek = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|" +
		`[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// scannerOf returns the scanner of a regular expression, nil when it is none of those known.
func scannerOf(expression string) scanner {
	switch strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(expression) {
	case patternGPT2:
		return scanGPT2
	case patternCL100K:
		return scanCL100K
	case patternQwen2:
		return scanQwen2
	case patternQwen35:
		return scanQwen35
	case patternO200K:
		return scanO200K
	case patternTekken:
		return scanTekken
	case patternNumbers3:
		return scanNumbers3
	case patternCJK:
		return scanCJK
	case patternDeepSeek:
		return scanDeepSeek
	}
	return nil
}

func scanGPT2(u *unicodeTables, text []byte, i int) int {
	if end := contraction(text, i, false); end > i {
		return end
	}
	j := i
	if text[i] == ' ' && i+1 < len(text) {
		j++
	}
	switch g, size := u.at(text, j); {
	case g&groupL != 0:
		return u.run(text, j+size, groupL)
	case g == groupN:
		return u.run(text, j+size, groupN)
	case g != groupSpace:
		return u.run(text, j+size, groupOther|groupM|groupP|groupS)
	}
	return spaces(u, text, i, false)
}

func scanCL100K(u *unicodeTables, text []byte, i int) int { return scanWords(u, text, i, groupL, 3) }

func scanQwen2(u *unicodeTables, text []byte, i int) int { return scanWords(u, text, i, groupL, 1) }

func scanQwen35(u *unicodeTables, text []byte, i int) int {
	return scanWords(u, text, i, groupL|groupM, 1)
}

// scanWords is cl100k with words made of the groups word and numbers of at most digits digits.
func scanWords(u *unicodeTables, text []byte, i int, word group, digits int) int {
	c := text[i]
	g, size := u.at(text, i)
	switch {
	case g&word != 0:
		return u.run(text, i+size, word)
	case g == groupN:
		return numbers(u, text, i, digits)
	case c == '\'':
		if end := contraction(text, i, true); end > i {
			return end
		}
	}
	if j := i + size; j < len(text) && c != '\r' && c != '\n' {
		if h, size := u.at(text, j); h&word != 0 {
			return u.run(text, j+size, word)
		}
	}
	if end := symbols(u, text, i, (groupOther|groupM|groupP|groupS)&^word); end > i {
		return lines(text, end, false)
	}
	return spaces(u, text, i, true)
}

func scanO200K(u *unicodeTables, text []byte, i int) int {
	if end := casedWord(u, text, i); end > i {
		return max(end, contraction(text, end, true))
	}
	return scanNoWord(u, text, i, 3)
}

func scanTekken(u *unicodeTables, text []byte, i int) int {
	if end := casedWord(u, text, i); end > i {
		return end
	}
	return scanNoWord(u, text, i, 1)
}

// scanNoWord is what the expressions of cased words have in common behind the words.
func scanNoWord(u *unicodeTables, text []byte, i, digits int) int {
	if g, _ := u.at(text, i); g == groupN {
		return numbers(u, text, i, digits)
	}
	if end := symbols(u, text, i, groupOther|groupM|groupP|groupS); end > i {
		return lines(text, end, true)
	}
	return spaces(u, text, i, true)
}

const (
	upper = groupLu | groupLt | groupLm | groupLo | groupM
	lower = groupLl | groupLm | groupLo | groupM
)

// casedWord matches an optional code point that is neither letter, number nor line break, then upper* lower+, or else
// upper+ lower*. It returns i when there is none.
func casedWord(u *unicodeTables, text []byte, i int) int {
	g, size := u.at(text, i)
	if g&(groupL|groupN) == 0 && text[i] != '\r' && text[i] != '\n' {
		if j := i + size; j < len(text) {
			if end := cased(u, text, j); end > j {
				return end
			}
		}
		// A mark may be the word itself.
		if g != groupM {
			return i
		}
	}
	return cased(u, text, i)
}

// cased matches upper* lower+ or else upper+ lower* at i. It returns i when there is none.
func cased(u *unicodeTables, text []byte, i int) int {
	// The groups that are both upper and lower make the greedy upper* give back what lower+ needs: up to the last of them.
	both := i
	j := i
	for j < len(text) {
		g, size := u.at(text, j)
		if g&upper == 0 {
			if g&lower != 0 {
				return u.run(text, j+size, lower)
			}
			break
		}
		j += size
		if g&lower != 0 {
			both = j
		}
	}
	if both > i {
		return both
	}
	return j
}

func scanNumbers3(u *unicodeTables, text []byte, i int) int {
	if g, _ := u.at(text, i); g == groupN {
		return numbers(u, text, i, 3)
	}
	return u.run(text, i, ^groupN)
}

func scanCJK(_ *unicodeTables, text []byte, i int) int {
	in := false
	for j := i; j < len(text); {
		r, size := utf8.DecodeRune(text[j:])
		cjk := r >= '一' && r <= '龥' || r >= '\u3040' && r <= 'ヿ'
		if j > i && cjk != in {
			return j
		}
		in = cjk
		j += size
	}
	return len(text)
}

func scanDeepSeek(u *unicodeTables, text []byte, i int) int {
	end := matchDeepSeek(u, text, i)
	if end > i {
		return end
	}
	// Controls and numbers match nothing, unless they begin a word.
	for end < len(text) {
		_, size := u.at(text, end)
		end += size
		if end < len(text) && matchDeepSeek(u, text, end) > end {
			break
		}
	}
	return end
}

func matchDeepSeek(u *unicodeTables, text []byte, i int) int {
	c := text[i]
	g, size := u.at(text, i)
	const word = groupL | groupM
	if g&word != 0 {
		return u.run(text, i+size, word)
	}
	if j := i + size; j < len(text) {
		if c < 0x80 && g&(groupP|groupS) != 0 && letterASCII(text[j]) {
			for j < len(text) && letterASCII(text[j]) {
				j++
			}
			return j
		}
		if g&(groupP|groupS) == 0 && c != '\r' && c != '\n' {
			if h, size := u.at(text, j); h&word != 0 {
				return u.run(text, j+size, word)
			}
		}
	}
	if end := symbols(u, text, i, groupP|groupS); end > i {
		return lines(text, end, false)
	}
	if g == groupSpace {
		return spaces(u, text, i, true)
	}
	return i
}

func letterASCII(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

const longS = "ſ" // is an s in another case

// contraction matches 's 't 're 've 'm 'll 'd at i, in any case when fold is set. It returns i when there is none.
func contraction(text []byte, i int, fold bool) int {
	if i+1 >= len(text) || text[i] != '\'' {
		return i
	}
	at := func(j int) byte {
		if j >= len(text) {
			return 0
		}
		if fold && letterASCII(text[j]) {
			return text[j] | 0x20
		}
		return text[j]
	}
	switch first, second := at(i+1), at(i+2); {
	case first == 's' || first == 't' || first == 'm' || first == 'd':
		return i + 2
	case (first == 'r' || first == 'v') && second == 'e', first == 'l' && second == 'l':
		return i + 3
	case fold && first == longS[0] && at(i+2) == longS[1]:
		return i + 1 + len(longS)
	}
	return i
}

// numbers returns the end of at most limit numbers from i.
func numbers(u *unicodeTables, text []byte, i, limit int) int {
	for range limit {
		if i >= len(text) {
			break
		}
		g, size := u.at(text, i)
		if g != groupN {
			break
		}
		i += size
	}
	return i
}

// symbols matches an optional space and a run of g. It returns i when there is none.
func symbols(u *unicodeTables, text []byte, i int, g group) int {
	j := i
	if text[i] == ' ' {
		j++
	}
	if end := u.run(text, j, g); end > j {
		return end
	}
	return i
}

// lines returns the end of the line breaks, and slashes when asked, from i.
func lines(text []byte, i int, slashes bool) int {
	for i < len(text) && (text[i] == '\r' || text[i] == '\n' || slashes && text[i] == '/') {
		i++
	}
	return i
}

// spaces matches \s*[\r\n]+ where breaks is set, else \s+(?!\S), else \s+, at white space: to the last line break, or all
// but the last, which goes with what follows.
func spaces(u *unicodeTables, text []byte, i int, breaks bool) int {
	last, broken := i, i
	j := i
	for j < len(text) {
		g, size := u.at(text, j)
		if g != groupSpace {
			break
		}
		last = j
		if c := text[j]; c == '\n' || c == '\r' {
			broken = j + 1
		}
		j += size
	}
	switch {
	case breaks && broken > i:
		return broken
	case j == len(text) || last == i:
		return j
	}
	return last
}
